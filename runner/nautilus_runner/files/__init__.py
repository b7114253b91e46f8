"""Files that a job could have written: found, read, packed and unpacked without ever following its links."""
