"""The migrations, one .sql file each; the table's comment says which was the last."""
