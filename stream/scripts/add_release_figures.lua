#!lua
-- Add what one ingest has counted to the figures of a release.
--
-- KEYS  1 figures
-- ARGV  1 ttl_ms   2 largest difference   then per figure: its name, how much to add
-- reply 1
local wrong = wrong_type(KEYS[1], 'hash')
if wrong then
    return wrong
end
for i = 3, #ARGV, 2 do
    redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
end
local before = tonumber(redis.call('HGET', KEYS[1], 'largest') or '0') or 0
if tonumber(ARGV[2]) > before then
    redis.call('HSET', KEYS[1], 'largest', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
