-- One database for each service; integration-service and account-manager share theirs. Run once, on an empty server.
CREATE DATABASE integration_db TEMPLATE template0 ENCODING 'UTF8';
CREATE DATABASE invite_db TEMPLATE template0 ENCODING 'UTF8';
CREATE DATABASE parsing_db TEMPLATE template0 ENCODING 'UTF8';
CREATE DATABASE report_db TEMPLATE template0 ENCODING 'UTF8';
CREATE DATABASE user_db TEMPLATE template0 ENCODING 'UTF8';
