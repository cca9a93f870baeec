"""What every part of Conch agrees on. This room imports nothing of ours; everything else imports it."""
