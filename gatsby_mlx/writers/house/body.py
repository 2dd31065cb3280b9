"""What a hero reaches out with.

>>> from gatsby_mlx.writers.house.lexicon import nouns
>>> limb(None), limb(nouns()["kitten"]), limb(nouns()["duck"]), limb(nouns()["snail"])
('hand', 'paw', 'wing', '')
"""

from .lexicon import Noun

BY_THEME = {"birds": "wing", "sea": "fin", "bugs": "leg"}
BY_WORD = {
    word: part
    for part, words in (
        ("hoof", "cow calf horse foal donkey mule goat sheep lamb ram pig piglet pony ox bull llama alpaca mare colt"),
        ("hoof", "deer fawn moose elk boar stag giraffe zebra hippo rhino tapir camel antelope gazelle buffalo yak"),
        ("wing", "hen chick rooster duck duckling goose gosling turkey canary parakeet bat mosquito hornet"),
        ("wing", "bee bumblebee honeybee butterfly moth ladybug firefly housefly wasp dragon"),
        ("foot", "elephant frog toad tadpole newt salamander turtle tortoise crocodile alligator gecko iguana"),
        ("hoof", "warthog"),
        ("foot", "chameleon platypus"),
        ("arm", "octopus squid starfish monkey chimpanzee orangutan baboon lemur"),
        ("claw", "crab shrimp"),
        ("fin", "fish goldfish guppy"),
        ("paw", "bear cub"),
        ("", "snake python worm snail slug caterpillar inchworm silkworm glowworm clam oyster urchin"),
    )
    for word in words.split()
}
PLURALS = {"hoof": "hooves", "foot": "feet"}


def limb(noun: Noun | None) -> str:
    """The limb of an animal by its last word, else by its theme; a hand for a child or person; '' for a snail."""
    if noun is None or noun.kind == "person":
        return "hand"
    return BY_WORD.get(noun.word.split()[-1], BY_THEME.get(noun.theme, "paw"))


def limbs(noun: Noun | None) -> str:
    """The plural of its limb: 'paws', 'hooves', ''."""
    part = limb(noun)
    return PLURALS.get(part, part and part + "s")
