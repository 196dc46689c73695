-- What is put before each script that uses it: the error to return if a key exists and is of another type, else nil.
local function wrong_type(key, kind)
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then
        return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind .. ': delete it')
    end
end
-- The same for several keys: `kinds` by their numbers, and `others` for those behind them, if they matter.
local function wrong_types(kinds, others)
    for number = 1, others and #KEYS or #kinds do
        local wrong = wrong_type(KEYS[number], kinds[number] or others)
        if wrong then
            return wrong
        end
    end
end
