"""The merge table: classes of pictures ← sub-categories of emoji.json; and what may be mirrored."""

CLASSES = {  # class → sub-categories; `Component` (bare skin tones) is left out
    "happy faces": ("face-smiling", "face-affection", "face-tongue", "face-hat", "face-glasses"),
    "other faces": ("face-concerned", "face-negative", "face-unwell", "face-sleepy",
                    "face-neutral-skeptical", "face-hand"),
    "masks and cats": ("face-costume", "cat-face", "monkey-face"),
    "hearts": ("heart",),
    "hands and body": ("hand-fingers-closed", "hand-fingers-open", "hand-fingers-partial",
                       "hand-prop", "hand-single-finger", "hands", "body-parts"),
    "people": ("person", "person-gesture", "person-symbol"),
    "jobs": ("person-role",),
    "fantasy": ("person-fantasy",),
    "people in motion": ("person-activity", "person-resting", "person-sport"),
    "families": ("family",),
    "mammals": ("animal-mammal",),
    "birds and small animals": ("animal-bird", "animal-reptile", "animal-amphibian", "animal-bug",
                                "animal-marine"),
    "plants": ("plant-flower", "plant-other"),
    "fruit and vegetables": ("food-fruit", "food-vegetable"),
    "meals": ("food-prepared", "food-asian"),
    "sweets and drinks": ("food-sweet", "drink", "dishware"),
    "buildings and places": ("place-building", "place-religious", "place-other",
                             "place-geographic", "place-map", "hotel"),
    "vehicles": ("transport-ground", "transport-water", "transport-air"),
    "sky and weather": ("sky & weather",),
    "clocks": ("time",),
    "clothes": ("clothing",),
    "games and parties": ("sport", "game", "event", "award-medal", "arts & crafts"),
    "tools and household": ("tool", "science", "medical", "lock", "household", "other-object"),
    "office": ("book-paper", "mail", "office", "writing", "money"),
    "media and music": ("computer", "phone", "light & video", "sound", "music",
                        "musical-instrument"),
    "flags": ("country-flag", "flag", "subdivision-flag"),
    "letters": ("alphanum", "keycap", "punctuation", "math", "currency"),
    "shapes": ("geometric",),
    "arrows": ("arrow", "av-symbol"),
    "signs": ("transport-sign", "warning", "zodiac", "religion", "gender", "other-symbol",
              "emotion"),
}
LEFT_OUT = ("skin-tone",)
CLASS_OF = {sub: name for name, subs in CLASSES.items() for sub in subs}

# Whose mirror image is as good a picture: no flags, letters, signs, arrows, clocks, maps, and
# nothing that is written on. A sub-category that is not here is not mirrored.
MIRRORED = frozenset([
    *CLASSES["happy faces"], *CLASSES["other faces"], *CLASSES["masks and cats"], "heart",
    *CLASSES["hands and body"], *CLASSES["people"], *CLASSES["jobs"], *CLASSES["fantasy"],
    *CLASSES["people in motion"], *CLASSES["families"], *CLASSES["mammals"],
    *CLASSES["birds and small animals"], *CLASSES["plants"], *CLASSES["fruit and vegetables"],
    *CLASSES["meals"], *CLASSES["sweets and drinks"], *CLASSES["vehicles"], "sky & weather",
    "clothing", "sport", "event", "arts & crafts", "place-building", "place-religious",
    "place-other", "place-geographic", "hotel", "tool", "science", "medical", "lock", "household",
    "other-object", "writing", "light & video", "sound", "musical-instrument",
])
# Single emoji of these that are not: letters or digits are drawn on them, …
_WRITTEN = ("1f634 1f911 1f92c 1f4ae 1f96e 1f3e3 1f3e4 1f3e5 1f3e6 1f3e8 1f3e9 1f3ea 1f3eb 1f3ec "
            "1f68c 1f68d 1f68f 1f691 1f692 1f693 1f694 1f695 1f696 1f6d1 26fd 1f3ce 1f3ab 1f39f "
            "1f9e7 1f9b8 1faaa 1faa6 1faa7 1f4fc 1f3b9")
# … or the mirror image is, or nearly is, another emoji: pointing left and right, the moon's phases.
_TURNED = ("1f448 1f449 1faf1 1faf2 1faf7 1faf8 1f91b 1f91c 1f312 1f313 1f314 1f316 1f317 1f318 "
           "1f319 1f31b 1f31c 1f50d 1f50e")
_NOT_MIRRORED = frozenset(f"{_WRITTEN} {_TURNED}".split())
_TEACHERS = "1f3eb"  # people at a blackboard


def may_mirror(codes: str, subcategory: str) -> bool:
    """Whether the mirror image of an emoji may be trained on.

    Args:
        codes (str): of the emoji without skin tones, `1f9d1-200d-1f3eb`.
        subcategory (str): as emoji.json names it.
    """
    parts = codes.split("-")
    return (subcategory in MIRRORED and parts[0] not in _NOT_MIRRORED
            and _TEACHERS not in parts[1:])
