"""What no recipe needs: examining data, planning devices, sweeping values, measuring speed."""
