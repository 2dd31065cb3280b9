"""The nouns that the house's vocabulary leaves out, for the evaluation topics with unseen nouns."""

HELD_OUT = """
otter hedgehog walrus ostrich badger lobster peacock raccoon gorilla parrot jellyfish dragonfly flamingo beaver lizard
submarine taxi canoe tractor helicopter skateboard pancake pickle muffin mango coconut waffle noodle pretzel cactus
daisy mushroom tornado hailstone telescope toaster typewriter microscope vacuum trampoline puppet yoyo marble jigsaw
violin trumpet harmonica umbrella backpack mitten necklace wizard astronaut plumber dentist mermaid lighthouse museum
volcano igloo
""".split()
