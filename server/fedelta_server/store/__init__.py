"""What the coordinator keeps: state in SQL, payloads as files beside it."""
