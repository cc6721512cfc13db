"""Do the commands of many ``mysqllock run`` on one name ever overlap, whoever of them is killed?"""
