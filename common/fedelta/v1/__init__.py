"""The generated messages and stubs of `protos/fedelta/v1`."""
