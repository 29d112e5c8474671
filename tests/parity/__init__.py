"""Apache Kafka and Neve side by side: the same requests to both, and what may differ in their answers."""
