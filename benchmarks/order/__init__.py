"""Do jobs of one key run in order and never at once, while workers are killed? And at what cost?"""
