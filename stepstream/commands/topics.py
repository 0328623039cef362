"""``stepstream topics``."""

from __future__ import annotations

import sys

from stepstream.settings import Settings
from stepstream.streaming.clients import explain_kafka_errors
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.durability import report_topics, warnings_of
from stepstream.streaming.topics import READINGS_POLICY, create_topics

__all__ = ["Topics"]


class Topics(Settings):
    """Create the topics that stepstream needs, and say what is wrong with existing ones."""

    def execute(self) -> int:
        """Create and check, and say what the topics' replicas mean."""
        settings = self.renamed()
        topics = settings.topics
        created = create_topics(settings.kafka, topics)
        reports = report_topics(settings.kafka, topics)
        described = {report.name: report for report in reports}
        for name in [*topics.named, *topics.written]:
            done = "created" if name in created else "exists"
            # Another broker may not know yet what was just created.
            report = described.get(name)
            sys.stdout.write(f"{name}: {done}{f'; {report.promise}' if report else ''}\n")
            sys.stdout.writelines(
                f"  differs: {t}\n" for t in (report.differences if report else ())
            )
        for warning in warnings_of(reports):
            sys.stderr.write(f"stepstream topics: warning: {warning}\n")
        if topics.patterns:
            _show_matches(settings)
        return 0


def _show_matches(settings: Settings) -> None:
    """Say what is known of topics that match patterns, and what later ones must be like."""
    cluster, topics = Cluster(settings), settings.topics
    with explain_kafka_errors("topics that match can't be listed"):
        found = cluster.find_topics(topics)
        (state,) = cluster.identify_topics([topics.state]).values()
    for name in sorted(filter(topics.matches, found)):
        obstacle = found[name].obstacle
        sys.stdout.write(f"{name}: {f'not read: {obstacle}' if obstacle else 'matches'}\n")
    sys.stdout.write(
        f"topics that match {' or '.join(topics.patterns)} and are created later are read "
        f"if they have at most {state.partition_count} partitions and "
        f"cleanup.policy={READINGS_POLICY}\n"
    )
