"""What a command shows: text from outside made fit to print, tables, streams, and its end."""
