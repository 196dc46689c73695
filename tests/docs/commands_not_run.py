"""Shell commands of the documents that tests/docs/test_shown_commands.py does not run: why, or which test runs them.

The patterns are those of fnmatch, for the command with single spaces.
"""

from typing import Final

_DOCKER: Final = "needs Docker; tests/deploy reads the same files and starts their processes"
_SYSTEMD: Final = "tests/deploy/test_systemd.py::test_systemd_accepts_the_unit"
_NGINX: Final = "tests/deploy/test_nginx.py::test_nginx_accepts_the_files_for_hosts_and_the_block_for_operators"
_CLUSTER: Final = "needs a cluster; tests/deploy checks the manifests"
_GPU: Final = "needs a GPU"
_MINUTES: Final = "takes minutes"
_INSTALLS: Final = "installs packages from the network; `make` does so before the suite"
_SUITE: Final = "is run before a change is delivered, and contains this suite or checks the same files"
_OTHER_SERVER: Final = "needs a Redis server of one's own"
_TRACES: Final = "tests/system/test_traces.py::test_a_trace_leads_from_the_request_to_its_batch_and_back"
_MEASURED: Final = "tests/export/test_measured_export.py::test_the_normalisation_is_found_on_forty_images"
_SERVE: Final = "tests/sluice/test_serve.py::test_one_command_serves_and_ctrl_c_ends_it"
_SECOND_MODEL: Final = "tests/sluice/test_serve.py::test_a_second_model_joins_with_a_consumer_of_its_own"
_HERE: Final = "tests/docs/test_shown_commands.py::service"
_PROCESSES: Final = "tests/ingest/test_app.py::service"
_RELEASE: Final = "tests/sluice/test_release.py::test_a_candidate_takes_a_share_and_is_promoted"
_NAME: Final = "tests/docs/test_commands.py::test_every_command_of_a_document_exists"
_DEAD_LETTERS: Final = "tests/results/test_main.py::test_a_dead_letter_is_listed_shown_and_dropped"
_DEAD_WEBHOOKS: Final = (
    "tests/ingest/webhooks/test_webhooks.py::test_what_cannot_be_delivered_is_a_dead_letter_and_can_be_replayed"
)

NOT_RUN_HERE: Final = {
    # Other programs, other machines.
    "*docker *": _DOCKER,
    "sudo chown 10001 keys/keys": _DOCKER,
    "sudo .venv/bin/python -m ingest.keys add *": (
        "tests/security/test_keys.py::test_a_key_file_keeps_its_owner_and_its_rights"
    ),
    "sudo systemctl *": _SYSTEMD,
    "sudo useradd *": _SYSTEMD,
    "sudo chown -R sluice: *": _SYSTEMD,
    "sudo -u sluice git pull": "needs a remote repository",
    "sudo -u sluice .venv/bin/python -m ingest.keys *": "tests/security/test_keys.py",
    "sudo -u sluice .venv/bin/python -m stream.acl *": "tests/security/test_acl_file.py",
    "sudo -u sluice .venv/bin/sluice status *": _OTHER_SERVER,
    "sudo -u sluice *": _INSTALLS,
    "cd /srv/sluice": _SYSTEMD,
    "sudo install *": _OTHER_SERVER,
    "sudo cp * /srv/nginx*": _NGINX,
    "sudo nginx *": _NGINX,
    "gzip --test *": _DOCKER,
    "sudo cp deploy/systemd/*": _SYSTEMD,
    "sudo mkdir -p /etc/systemd/*": _SYSTEMD,
    "journalctl *": _SYSTEMD,
    "kubectl *": _CLUSTER,
    "until kubectl *": _CLUSTER,
    'SLUICE_WEBHOOK_SECRET="$(kubectl *': _CLUSTER,
    "redis-cli *": _OTHER_SERVER,
    "HASH=*": "tests/security/test_acl_file.py::test_another_password_can_be_brought_in_without_a_pause",
    "REDISCLI_AUTH=* redis-cli *": _OTHER_SERVER,
    "python -m stream.acl FOLDER --redis-7-0": "tests/security/test_acl_file.py, against Redis 7",
    "*pip install *": _INSTALLS,
    "git pull": "needs a remote repository",
    "python3 -m venv .venv": _INSTALLS,
    "make install": _INSTALLS,
    "make run GPU=1": _GPU,
    ".venv/bin/python -m bench.gpu *": "tests/bench/test_gpu.py::test_every_step_runs_although_one_fails",
    # Services, which do not end.
    "make run": _SERVE,
    "sluice serve": _SERVE,
    "make run MODEL=*": "tests/sluice/test_command.py::test_make_passes_a_model_and_its_labels",
    "make run CONSUMERS=*": _HERE,
    "SLUICE_GRPC_PORT=5001 make run": _HERE,
    "*sluice serve flowers.keras *": "tests/sluice/test_measured_serve.py::test_forty_images_tell_the_normalisation",
    "*sluice serve serving/flowers/1 *": "tests/export/test_command.py::test_a_version_folder_names_no_model",
    "sluice serve flowers --version 1": "tests/sluice/test_models.py::test_an_export_is_served_in_the_named_version",
    "sluice serve NAME*": "tests/sluice/test_models.py::test_an_export_is_served_in_the_named_version",
    "sluice serve efficientnet-lite0": _SERVE,
    "sluice serve FILE": _SERVE,
    "sluice serve flowers --watch": ("tests/sluice/test_serve.py::test_watch_refuses_a_model_that_is_not_the_newest"),
    "sluice serve --watch": "tests/sluice/test_serve.py::test_watch_serves_a_version_that_comes_later",
    "SLUICE_API_KEYS_FILE=keys/keys * make run": (
        "tests/sluice/test_serve.py::test_a_public_address_is_served_with_keys"
    ),
    "OTEL_EXPORTER_OTLP_ENDPOINT=* make run": _TRACES,
    "python -m stream": "tests/stream/test_embedded_server.py::test_data_outlives_an_orderly_end",
    "python -m ingest": _PROCESSES,
    "python -m consumers": _PROCESSES,
    "*sluice export roses.keras *": _MEASURED,
    ".venv/bin/python -m consumers --model roses *": _SECOND_MODEL,
    ".venv/bin/python -m consumers --model flowers --version 2 *": _RELEASE,
    "python -m consumers --model resnet50 --version 2": _PROCESSES,
    "python -m consumers --data-dir .sluice/5000": _PROCESSES,
    "python -m ingest.webhooks": "tests/ingest/webhooks/test_webhooks.py::test_an_outcome_is_delivered_and_signed",
    "python -m ingest.webhooks secret NAME": (
        "tests/ingest/webhooks/test_webhooks.py::test_each_api_key_has_a_secret_of_its_own"
    ),
    # Programs that need what this service does not have.
    "*sluice export flowers.keras *": _MEASURED,
    "*sluice export flowers_v2.keras *": ("tests/export/test_program.py::test_an_unchanged_file_is_not_exported_again"),
    "*sluice export mobilenetv2 --weights mine.weights.h5 *": (
        "tests/export/test_own_weights.py::test_labelled_images_measure_the_normalisation_and_name_the_classes"
    ),
    "*sluice export my.onnx *": "tests/export/sources/test_onnx_file.py::test_an_onnx_file_becomes_an_artefact",
    "*sluice export --from * --precision int8 *": (
        "tests/export/precision/test_command.py::test_int8_is_a_version_of_its_own"
    ),
    "*export* --precision fp16": (
        "tests/export/precision/test_command.py::test_fp16_keeps_its_ends_and_needs_no_images"
    ),
    "*ingest.client holiday.mp4 *": "tests/ingest/client/test_video.py::test_a_time_line_is_written_and_resumed",
    "sluice release": _NAME,
    "*sluice release *": _RELEASE,
    "*sluice forget *": "tests/sluice/test_forget.py::test_nothing_of_a_model_is_left_and_another_stays",
    "*results dead-letters replay *": "tests/results/test_main.py::test_all_are_replayed_and_what_is_missing_is_said",
    "*results dead-letters show *": "tests/results/test_main.py::test_the_image_of_a_dead_letter_can_be_seen",
    "*results dead-letters drop*": _DEAD_LETTERS,
    "*results delete ID": "tests/results/test_main.py::test_an_operator_deletes_a_request_by_its_id",
    "*results webhooks replay ID": _DEAD_WEBHOOKS,
    "*results webhooks drop ID": _DEAD_WEBHOOKS,
    "java *": "tests/docs/test_more_examples.py::test_java",
    "node *": "tests/docs/test_more_examples.py::test_node",
    "npx openapi-typescript *": (
        "tests/ingest/api/test_generated_clients.py::test_a_generated_typescript_client_classifies_an_image"
    ),
    "WEBHOOK_SECRET=*receive_webhook.py *": (
        "tests/docs/test_more_examples.py::test_the_receiver_prints_what_it_is_sent"
    ),
    # What belongs to a shell.
    "source .venv/bin/activate": "changes only the shell it is typed in; the commands are run as it leaves the shell",
    "tar czf queue.tar.gz .sluice/5000": "needs a service that is stopped; the other commands share this one",
    # Names of programs in sentences, which need arguments.
    "python -m results": _NAME,
    "python -m ingest.client": _NAME,
    "python -m ingest.keys": _NAME,
    "python -m export": _NAME,
    "*sluice classify": _NAME,
    "sluice": _NAME,
    # The contributor's.
    "make check": _SUITE,
    "make test": _SUITE,
    "make test-redis[78]": _SUITE,
    ".venv/bin/pytest tests/*": _SUITE,
    "python -m tests.versions lowest": _MINUTES,
    "*python -m tests.export.matrix": ("tests/export/test_matrix.py::test_the_answer_is_the_owners_or_the_export_asks"),
    "*python -m tests.docs.settings": "tests/docs/test_docs.py::test_the_tables_of_settings_are_current",
    "*python -m tests.docs.vocabulary*": "tests/docs/test_vocabulary.py::test_no_retired_word_is_used",
    "*python -m tests.docs.prose": "tests/docs/test_prose.py::test_a_document_is_plainly_written",
    "*python -m grpc_tools.protoc *": (
        "tests/ingest/grpc_api/test_generated.py::test_the_messages_are_those_of_the_description"
    ),
    "make bench*": _MINUTES,
    "make soak*": _MINUTES,
    "python -m tests.chaos.soak *": _MINUTES,
    "make chaos*": "tests/chaos/test_chaos.py::test_nothing_is_lost_doubled_or_wrong_whatever_is_killed",
    "python -m tests.chaos.webhooks": (
        "tests/chaos/test_webhooks.py::test_no_webhook_is_lost_when_processes_are_killed"
    ),
    "python -m tests.chaos.kill_redis *": _MINUTES,
    "python -m tests.chaos.hostile_files": _MINUTES,
    "python -m bench.priority_classes": _MINUTES,
    "python -m bench.release": _MINUTES,
    "python -m bench.simulate*": "tests/bench/test_simulation.py::test_a_simulation_is_drawn",
}
