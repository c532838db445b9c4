"""From phases to breast mask, tumour mask and lesions."""
