-- What is put before each script that uses it: have a group forget a consumer, unless it still holds entries of the
-- stream. Returns how many it holds.
local function leave_group(stream, group, consumer)
    local pending = reply_of_group(redis.pcall('XPENDING', stream, group))
    if not pending then
        return 0 -- There is no group: it holds nothing.
    end
    for _, holder in ipairs(pending[4] or {}) do
        if holder[1] == consumer then
            return tonumber(holder[2])
        end
    end
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    return 0
end
