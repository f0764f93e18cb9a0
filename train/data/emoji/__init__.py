"""Emoji sets → a folder of pictures: what `python -m train.emoji` is made of.

    packages   the npm packages: fetched, checked, read
    catalogue  emoji.json: which emoji there are, in which category, with which skin tones
    classes    the merge table of categories, and what may be mirrored
    drawings   the drawing of every emoji in every style
    render     a drawing → RGB on white
    augment    changed copies
    split      which emoji are held out
    folder     all of it, written
"""
