"""Why a loss is what it is: where it comes from, how losses compare, and what they disagree about."""
