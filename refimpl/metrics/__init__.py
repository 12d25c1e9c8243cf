"""How good is a ranking, a classifier, an experiment?"""
