"""What a person names as pictures - a folder, archives, shards, a table of URLs - turned into files with captions."""
