-- File servers: a kind whose making takes time and may fail; and who mounts which.

alter table batchyard.resource drop constraint resource_kind_check;
alter table batchyard.resource add constraint resource_kind_check
    check (kind in ('group', 'workspace', 'cluster', 'file_server', 'experiment', 'job'));

alter table batchyard.resource drop constraint resource_provisioning_check;
alter table batchyard.resource add constraint resource_provisioning_check
    check (provisioning in ('creating', 'succeeded', 'deleting', 'failed'));

create index resource_file_server_idx on batchyard.resource (subscription_id) where kind = 'file_server';

create table batchyard.file_server_use (
    user_uid uuid not null,
    server_uid uuid not null,
    constraint file_server_use_pkey primary key (user_uid, server_uid),
    constraint file_server_use_user_fkey foreign key (user_uid) references batchyard.resource (uid) on delete cascade,
    constraint file_server_use_server_fkey foreign key (server_uid) references batchyard.resource (uid) on delete cascade
);
comment on table batchyard.file_server_use is 'Which clusters and jobs mount which file servers, bound at admission.';
comment on column batchyard.file_server_use.user_uid is 'The cluster or job.';
comment on column batchyard.file_server_use.server_uid is 'The file server.';

create index file_server_use_server_idx on batchyard.file_server_use (server_uid);
