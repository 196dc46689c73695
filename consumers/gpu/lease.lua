#!lua flags=allow-oom
-- Acquire, renew or release the right to use a GPU. Only its holder, or a consumer that finds it free, can.
--
-- KEYS  1 GPU lease
-- ARGV  1 consumer   2 lease_ms, 0 to release
-- reply 1 if that was done, 0 if another consumer holds the lease
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return 0
end
if ARGV[2] == '0' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
