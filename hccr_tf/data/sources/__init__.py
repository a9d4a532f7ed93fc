"""What people have on their disks, read file by file."""
