"""The feedback half: what is asked, who answers, where answers are stored, and what is made of them.

asking/ questions and answers; people/ who may come in; projects/; items/ what is asked about; work/ who gets which
item, and where an answer is stored; imports/; exports/ where a preference row is made; training/ what trainers read;
insights/ what the votes say; statistics/ on plain arrays; commands/ what the command line runs.
"""
