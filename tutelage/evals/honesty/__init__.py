"""The command `eval honesty`: whether models answer what they know, and admit, correct and decline where they should."""
