#!lua flags=no-writes
-- One partition at one moment: its backlog, its group and who is in it. Atomic, so that the figures belong together.
--
-- KEYS  1 entries   2 alive   3 consumers   4 counters   5 dead
-- ARGV  1 group   2 most pending entries to look at for each consumer
-- reply {now_ms, backlog, oldest entry id or nil, pending, lag or nil, dead letters, counters, reports, alive, held}
--       counters, reports and alive are flat: name, value, name, value...
--       held has {consumer, pending, ms since the stalest was renewed, oldest entry id} for each in the group;
--       the last two are 0 and nil where it holds nothing
local function named(flat)
    local fields = {}
    for i = 1, #flat, 2 do
        fields[flat[i]] = flat[i + 1]
    end
    return fields
end

local time = redis.call('TIME')
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]

-- XINFO is an error where the stream is missing; then there is no group either.
local pending, lag = 0, false
local held = {}
for _, flat in ipairs(redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}) do
    local group = named(flat)
    if group.name == ARGV[1] then
        pending, lag = group.pending, group.lag
        for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
            local name = named(about).name
            local entries = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[2], name)
            local stalest = 0
            for _, entry in ipairs(entries) do
                stalest = math.max(stalest, entry[3])
            end
            held[#held + 1] = {name, named(about).pending, stalest, entries[1] and entries[1][1] or false}
        end
    end
end

return {
    time[1] * 1000 + math.floor(time[2] / 1000),
    redis.call('XLEN', KEYS[1]),
    oldest and oldest[1] or false,
    pending,
    lag,
    redis.call('XLEN', KEYS[5]),
    redis.call('HGETALL', KEYS[4]),
    redis.call('HGETALL', KEYS[3]),
    redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'),
    held,
}
