"""Given names that are common in stories for children, to recognize a person's name at the start of a sentence.

Names that are also common words ("Will", "May", "Rose", "Hope") are left out: inside a sentence their capital letter
tells what they are.
"""

GIVEN_NAMES = frozenset(
    """Aaron Abby Abigail Ada Adam Adele Adrian Agnes Aidan Alan Albert Alex Alexander Alexandra Alfie Alfred Alice
    Alison Amanda Amelia Amir Amy Ana Andre Andrea Andrew Andy Angela Anita Ann Anna Anne Annie Anthony Antonio Aria
    Arthur Asha Ashley Astrid Audrey Ava Barbara Barney Beatrice Becky Bella Ben Benjamin Benny Bernard Beth Betsy Betty
    Bobby Brandon Brenda Brian Bruno Caleb Camila Carl Carla Carlos Carmen Caroline Cassie Catherine Cathy
    Cecilia Charles Charlie Charlotte Chloe Chris Christina Christopher Cindy Claire Clara Claudia Clive Colin Connor
    Cora Craig Dan Daniel Danny Darius David Deborah Dennis Derek Diana Diego Dominic Donald Doris Dorothy Doug
    Dylan Ed Eddie Edgar Edith Edward Elena Eli Elias Eliza Elizabeth Ella Ellen Ellie Elliot Elsa Elsie Emil Emilia
    Emily Emma Eric Erica Erin Esme Esther Ethan Eva Evan Evelyn Ezra Fatima Felix Fiona Frances
    Francis Frankie Fred Freddie Freddy Frederick Freya Gabriel Gareth Gary George Gerald Gina Gordon
    Greta Greg Gregory Gus Hannah Hans Harold Harriet Harry Hassan Hector Heidi Helen Helena Henry Herbert
    Howard Hugh Hugo Ian Ida Imogen Ingrid Irene Isaac Isabel Isabella Isla Ivan Jacob James Jamie Jan
    Jane Janet Jason Jasper Javier Jeff Jenna Jennifer Jenny Jeremy Jerry Jesse Jessica Jessie Jill Jim Jimmy Joan
    Joanna Joe Joel Joey John Johnny Jonah Jonathan Jose Joseph Josh Joshua Josie Juan Judith Judy Julia Julian
    Julie Juliet Karen Karim Karl Kate Katherine Kathy Katie Kayla Keith Kelly Ken Kenny Kevin Kim Kira Kyle
    Lana Laura Lauren Layla Lea Leah Lee Leila Lena Leo Leon Leonard Leonie Leroy Leslie Lewis Liam Lila Lillian
    Lina Linda Lisa Liz Lola Lotte Lottie Louis Louisa Louise Luca Lucas Lucia Lucy Luis Luke Lydia Mabel Maddie
    Madeline Maggie Malik Marcus Margaret Maria Marie Marina Mario Marta Martha Martin Mary Mateo Matilda Matt Matthew
    Matthias Maya Megan Mei Mia Michael Michelle Miguel Mike Mila Millie Milo Mimi Mina Miriam Mohammed Molly
    Monica Nadia Nancy Naomi Natalie Nathan Neil Nell Nellie Nicholas Nicole Nina Noah Noel Nora Norman Oliver Olivia
    Omar Oscar Otis Otto Owen Pablo Paige Pam Pamela Patricia Patrick Paul Paula Pauline Pedro Peggy Penelope Percy
    Pete Peter Phil Philip Phoebe Pierre Polly Priya Rachel Ralph Ramon Raj Raymond Rebecca Remy Rhys Ricardo Richard
    Ricky Rita Robert Roberta Rodney Roger Roland Ronald Rory Rosa Rosalie Rosie Roy Rupert Ruth Ryan Sally Sam
    Samantha Samir Samuel Sandra Sara Sarah Sasha Sean Sebastian Selma Seth Sharon Sheila Shirley Sid Sidney Silas
    Simon Simone Sofia Sofie Sophia Sophie Stan Stanley Stephanie Stephen Steve Steven Stuart Susan Susie Suzie
    Sylvia Tara Ted Teresa Terry Tess Tessa Thea Theo Theodore Thomas Tilly Tim Timmy Timothy Tina Toby Tom Tomas
    Tommy Tony Tracy Tristan Trudy Tyler Ursula Valerie Vanessa Vera Vernon Veronica Vicky Victor Vincent
    Vivian Walter Wanda Wendy Wilbur Wilfred William Wilma Winnie Xavier Yasmin Yolanda Yusuf Yvonne Zac
    Zach Zachary Zara Zelda Zoe""".split()
)
