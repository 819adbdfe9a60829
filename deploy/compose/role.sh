#!/bin/sh
# Run once by the postgres image, on an empty volume: the role that Protools signs in with is no superuser.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$DB_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE protools LOGIN CREATEDB CREATEROLE PASSWORD :'password';
SQL
