"""The exhibit: a page on which a visitor turns the dial and watches the light come into the story."""
