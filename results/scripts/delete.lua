#!lua flags=allow-oom
-- Delete the outcome of a request that has ended, or what else is in its place.
-- A mark of a cancelled request stays until its entry is gone.
--
-- KEYS  1 request
-- reply 1, or 0 if the request is unknown, queued or only marked as cancelled
local state = redis.pcall('GET', KEYS[1])
local text = type(state) == 'string' and state or ''
if not state or string.find(text, '^queued ') or string.find(text, '^cancelled') then
    return 0
end
-- A key that expires at once is deleted. Ingest has no right to DEL, which would delete requests that wait.
return redis.call('PEXPIRE', KEYS[1], 0)
