//! Attacks by what runs on nodes, and on the way between nodes and the server, each of which is refused. Attacks on the API have a table
//! of their own (`attacks`). Where an attack is played elsewhere, the table says where.
//!
//! | attack | refused by | played in |
//! |---|---|---|
//! | a join token is read from a command line, an environment, a disk | it is in memory of the node's root alone, and spent at once | `node::host_canaries_are_invisible`, `agent::secrets_are_in_no_argument_and_on_no_disk` |
//! | a join token is used twice, or late | the first key is bound, a second one quarantines; an hour | `agents::a_lost_reply_can_be_asked_again_and_a_second_key_quarantines`, `agents::an_expired_token_is_refused` |
//! | an agent reports for another node, or reads what is another's | who it is comes from its credential alone | `agents::a_node_reports_and_writes_its_own_alone` |
//! | a node's credential is stolen | it opens that node's state, and nothing of the API | [`agents::a_stolen_credential_gets_its_own_alone`] |
//! | reports that lie, or are no reports | one rule of what counts; own parts, forward, once | [`agents::odd_reports_break_nothing`], `domain::report` |
//! | a strange server, or one without TLS | the authority of the bootstrap, its name, no other way | [`agents::an_agent_speaks_to_its_own_server_alone`] |
//! | one kind of credential used as another | each has its own key and route | [`agents::a_stolen_credential_gets_its_own_alone`], `auth::` |
//! | the agent's port is attacked | it has none | [`agents::an_agent_listens_nowhere`] |
//! | another program in the agent's place, or an old one | the server's own file, held open; one version of the protocol | [`agents::a_program_in_the_servers_place_is_not_run`] |
//! | host files through the node's root | an allow-list of host folders; the data folder hidden | `node::host_canaries_are_invisible`, `node::a_data_folder_below_a_host_folder_that_nodes_see_is_hidden` |
//! | escapes: devices, modules, namespaces, ptrace, `/proc`, `/sys`, control groups | the rights of a container, a filter of calls, masks | `node::escape_battery`, `agent::a_job_has_no_rights_and_sees_only_itself` |
//! | processes of other nodes, memory of the agent | process namespaces, no dumps | `node::other_nodes_are_invisible`, `agent::a_job_has_no_rights_and_sees_only_itself` |
//! | the network of others, the host's, metadata addresses | a network for each cluster without a way out; a gate to named storage | `node::clusters_are_alone_with_themselves`, `node::forged_packets_stay_in_their_cluster`, `driver::local::init::gate` |
//! | an engine's socket, privileged containers, binds | the engine is out of sight; its containers have the default rights and the job's folders | `containers::walls::` |
//! | known ways out of an old runtime | out of a container is into its node, not the host; each node tells its version and what that has not closed | `domain::runc`, `agent::probe` (units), `e2e::health::a_node_proves_itself_before_it_takes_work` |
//! | secrets left behind by a job | memory alone; what is the job's goes with it | [`left_behind`], `containers::walls::`, `containers::ends::nothing_is_left_of_a_node_that_goes_with_a_container` |
//! | a trap for the next job, of another workspace | a node has one cluster for its life; folders and processes go with the job | [`left_behind::no_node_is_used_for_another_cluster`], `agent::what_a_job_leaves_in_the_background_ends_with_it`, `mounts::job::` |
//! | words that become commands: names, options, host files | arguments, never lines; an expander of our own | [`words::values_stay_values`], `jobs::words::a_command_line_means_what_it_says`, `agent::mount` (units), `agent::expand` |
//! | mount places that lead elsewhere, or are swapped | opened beneath a folder, without links | `agent::beneath` (a race), `agent::a_prefix_that_leads_elsewhere_is_a_fault_of_the_job` |
//! | output that is a link, a pipe, a device, a name of somewhere else | opened beneath a folder, regular files | `agent::output::only_regular_files_below_the_directory_are_sent`, `jobs::outputs::links_out_of_the_output_directory_are_not_followed`, `files::` |
//! | removal that leaves its folder | by descriptor, no links followed | `agent::beneath` |
//! | fork bombs, memory, disks, endless output, many files | control groups, what is cut is said | `jobs::greedy::`, `agent::disk::`, `jobs::outputs::` |
//! | words that steer a terminal, in errors and names | reports are cleaned; answers are JSON | `domain::report`, `jobs::words::`, `jobs::outputs::odd_names_are_listed_and_their_files_read` |
//! | mount programs that tell keys | keys by descriptor; what they say passes a filter | `mounts::failing::a_wrong_key_fails_the_node_and_is_nowhere_to_be_read` |
//! | a file server's answers | bounded, and data: no length is believed, no name leads elsewhere, nothing waits for ever | `agent::nfs` (units, one with answers at random), `nfs::failing::` |
//! | what is beside a file server's disk: guessed handles, names that are paths | its server sees the disk and nothing else | `nfs::walls::handle_guessing_stays_inside` |
//! | a node that is deleted goes on with a file server's files | its connections end with it | `nfs::walls::deleted_node_loses_access` |
//! | a file server of another cluster | a pass for each cluster that mounts it | `nfs::life::two_clusters_share_a_file_server_and_nothing_of_it_is_left` |
//! | sshd: guessing, forwarding, keys of an old job | its settings are ours, and asked of it by clients; a key pair for each attempt | `login::settings::`, `login::an_account_opens_its_own_nodes_alone_and_without_a_password_takes_none`, `frameworks::gang::a_node_lets_its_jobs_other_nodes_run_commands_and_copy_files_and_nothing_else`, `frameworks::gang::nothing_of_an_old_attempt_reaches_a_new_one` |
//! | a machine of the pool is another one; its key is used for something else | its host key is pinned, and a change ends it; one command, no forwarding | `ssh::changed_host_key_stops_the_join`, `ssh::a_key_of_the_pool_runs_nothing_else_and_forwards_nothing` |
//! | a registry that is not the user's, or answers badly | pulled on the node; credentials for one host; its answer is data | `containers::life::a_registrys_answer_reaches_the_user_and_its_password_nobody`, `containers::hostile::a_password_goes_to_the_registry_that_was_named_and_not_where_that_leads`, `containers::walls::an_image_from_elsewhere_comes_through_the_server_where_it_lets_it` |
//! | a registry whose layers never end, are larger than they say, or unpack to far more | room, time and silence of a pull are bounded | `containers::hostile::a_pull_without_end_is_ended_and_its_node_goes_on`, `agent::container::pull` (units) |
//! | a storage that lists without end, or what is not there, or sends elsewhere | pages, bytes and time of a list are bounded; no redirect is followed; names are data | `files::azure` (units), `mounts::failing::storage_that_is_away_or_silent_fails_in_time` |
//! | bodies that name what is to be fetched or run by whoever checks them | checks read rows alone; nodes fetch, once there is something to run | [`outside::what_is_checked_or_waits_opens_no_connection`] |
//! | a core of what holds keys | no core files, and memory that is not dumped | [`left_behind::nothing_that_holds_keys_leaves_a_core`] |
//! | a key vault that is not the operator's, or answers badly | named by the operator, for scopes; compared, never followed | `vaults::`, `vault::` |

mod agents;
mod left_behind;
mod outside;
mod table;
mod words;
