"""A JSON schema as a grammar: every keyword is kept or refused by name, whatever compiles the grammar.

The engines' own compilers (all of them xgrammar, in several versions) drop what they do not know, let whitespace run
on for ever and misread some characters; the EBNF made here is read alike by all of them.
"""
