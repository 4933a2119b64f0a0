"""How many workers, at what cost: a small queue simulation, fed with measured inputs.

python -m scripts.scaling            the table and the plots of docs/SCALING.md
python -m scripts.scaling.measure    the demo model on this machine, into measured.json
python -m scripts.scaling.gpu        what `make gpu-check` measured of a GPU, into measured.json
python -m scripts.scaling.compare    the simulation beside a real load test's result file
"""
