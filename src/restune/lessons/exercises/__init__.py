"""Programming exercises: a skeleton to complete, and checks that explain what is wrong as a teacher would."""
