"""`dragoman serve`: models as a service with OpenAI's audio API.

Uploads are decoded in child processes (`decoders`), windows of several requests are decoded together (`batching`), and
answers have OpenAI's form (`formats`). Nothing here is imported before the command needs it.
"""
