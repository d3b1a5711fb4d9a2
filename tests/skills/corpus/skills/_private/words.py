WORD = "private"
