"""What is more than loads one after the other: each function measures one group on one broker and returns the cell."""

import peers


def honest_for(broker, brokers):
    """The load generator is compared with others on this broker and on one Kafka."""
    first = next((b for b in brokers if b.endswith("-default")), None)
    return broker in ("oxbow", first)
