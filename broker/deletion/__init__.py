"""Log starts and what lies below them: retention, DeleteRecords, deleted topics, unused objects, orphans."""
