create table batchyard.pool_member (
    uid uuid primary key,
    name text not null,
    token_hash bytea unique,
    token_expires_at timestamptz,
    credential_hash bytea unique,
    heard_at timestamptz,
    state text,
    word text,
    removed_at timestamptz,
    check ((token_hash is null) = (token_expires_at is null))
);
create unique index pool_member_name_idx on batchyard.pool_member (name) where removed_at is null;

comment on table batchyard.pool_member is 'Machines of a pool that call in, and those that are asked to.';
comment on column batchyard.pool_member.uid is 'Its own id: one that was removed and asked again is another.';
comment on column batchyard.pool_member.name is 'The name of the machine in the settings.';
comment on column batchyard.pool_member.token_hash is 'SHA-256 of the token that it joins with; null once that is spent.';
comment on column batchyard.pool_member.token_expires_at is 'When the token ends.';
comment on column batchyard.pool_member.credential_hash is 'SHA-256 of the credential that it calls with; null until it joined.';
comment on column batchyard.pool_member.heard_at is 'When it called last.';
comment on column batchyard.pool_member.state is 'What it said of itself then, for people.';
comment on column batchyard.pool_member.word is 'What an operator tells it that it has not done yet: the reason of a quarantine, or nothing for its end.';
comment on column batchyard.pool_member.removed_at is 'When it was removed: it is told so, and cleans itself.';
