alter table batchyard.machine
    add column login_address text,
    add column login_port integer,
    add constraint machine_login_check check (login_port between 1 and 65535);
comment on column batchyard.machine.login_address is 'Where users reach its ssh server; null for its own address.';
comment on column batchyard.machine.login_port is 'The port there; null for the usual one.';
