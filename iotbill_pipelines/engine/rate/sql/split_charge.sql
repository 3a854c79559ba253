-- Usage that is split over time windows.
select offer_id, usage_class from charge where kind = 'usage' and time_policy = 'split'
