-- What is put before each script that uses it: the reply of a command about a group, nil if the stream has no such group.
-- Raises any other error, such as a missing right.
local function reply_of_group(reply)
    if not reply.err then
        return reply
    end
    -- XINFO says so where there is no stream, and other commands do not tell the two apart.
    if string.find(reply.err, '^NOGROUP') or string.find(reply.err, 'no such key') then
        return nil
    end
    error(reply)
end
