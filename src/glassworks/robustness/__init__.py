"""RobustRAG: answers that a bounded number of corrupted passages cannot change, and certificates that say so."""
