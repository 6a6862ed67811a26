"""What the API says of itself.

operations       the table of all operations
document         `/openapi.json`, made of it
answer_schemas   the form of each answer
docs_page        `/docs`, from the files in `page/`
"""
