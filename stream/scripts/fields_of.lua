-- What is put before each script that uses it: a flat reply (name, value, name, value...) as a table by name.
local function fields_of(flat)
    local fields = {}
    for i = 1, #flat, 2 do
        fields[flat[i]] = flat[i + 1]
    end
    return fields
end
