"""What both ends of a connection share: bulk messages, channel settings, errors and versions."""
