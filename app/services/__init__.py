"""What the product does: one public function per wish of one caller."""
