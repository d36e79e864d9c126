"""Cards of models: what each is for, made of, and worth, with pictures of success and failure.

Needs the extra ``train``.
"""
