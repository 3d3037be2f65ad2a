"""Text from elsewhere on a line of one's own."""


def printable(text: str) -> str:
    """The text as one line that moves no cursor: breaks become spaces, the rest that cannot be printed is escaped."""
    if text.isprintable():
        return text
    line = " ".join(part for part in text.splitlines() if part)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
