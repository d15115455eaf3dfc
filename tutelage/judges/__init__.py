"""Anything that scores responses at once.  (People answer later, through the store.)"""
