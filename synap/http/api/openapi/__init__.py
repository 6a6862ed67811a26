"""What the API says of itself.

route            what there is to say of one method of one path
routes           the table of them all
document         `/openapi.json`, made of it
answer_schemas   the form of each answer
examples         a request and an answer of each operation, from `examples.json`
reasons          which refusals an operation has
docs_page        `/docs`, from the files in `page/` and what `synap.http.vendor` has of others
"""
