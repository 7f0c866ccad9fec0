"""Rights that a login needs to move a tenant: those of the tables' owner, from whom row-level security hides no row."""

from typing import Any, Final

from goalworker.postgres import connections, tables

_ROLE: Final = tables.WORKER_ROLE
_NAMES: Final = [table.name for table in (*tables.TENANT_TABLES, tables.goal_revision)]
_NEEDED: Final = ["SELECT", "INSERT", "UPDATE", "DELETE"]
# Since PostgreSQL 16 a GRANT says whether its member inherits and may SET ROLE; before, the login says so itself.
_RIGHTS: Final = f"""
SELECT quote_ident(current_user) AS login, quote_ident(current_database()) AS database, is_16,
    pg_has_role('{_ROLE}', 'MEMBER') AS is_member,
    pg_has_role('{_ROLE}', 'USAGE') AND (NOT is_16 OR pg_has_role('{_ROLE}', 'SET')) AS has_role,
    has_database_privilege(current_database(), 'TEMPORARY') AS has_temporary,
    (SELECT min(name) FROM unnest($1::text[]) AS name, unnest($2::text[]) AS needed
        WHERE NOT has_table_privilege(name, needed)) AS denied
FROM (SELECT current_setting('server_version_num')::integer >= 160000 AS is_16) AS version
"""


async def problem(connection: connections.Connection, name: str) -> str | None:
    """Return what a login must be granted before it can move a tenant, None if it can.

    With less, a copy would lack rows without an error, or a move would end halfway. name is how the sentence calls the
    database.
    """
    found = await connection.fetchrow(_RIGHTS, _NAMES, _NEEDED)
    login = found["login"]
    if found["denied"] is not None:
        owner = "use the login that owns the tables, as for `goalworker db upgrade`"
        return f"{login} may not read and write every table of {name}, such as {found['denied']}: {owner}"
    if not found["has_role"]:
        hidden = f"{login} lacks the role {_ROLE} in {name}, and row-level security hides rows from it"
        return f"{hidden}: let an administrator run `{_grant(found)}`"
    if not found["has_temporary"]:
        grant = f"GRANT TEMPORARY ON DATABASE {found['database']} TO {login}"
        return f"{login} may not create temporary tables in {name}: let an administrator run `{grant}`"
    return None


def _grant(found: Any) -> str:
    if found["is_16"]:
        return f"GRANT {_ROLE} TO {found['login']} WITH INHERIT TRUE, SET TRUE"
    return f"ALTER ROLE {found['login']} INHERIT" if found["is_member"] else f"GRANT {_ROLE} TO {found['login']}"
