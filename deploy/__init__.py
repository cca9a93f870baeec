"""From a deployment spec to what starts it elsewhere: containers, their composition, and what watches them."""
